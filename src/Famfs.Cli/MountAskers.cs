using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Diagnostics;
using System.Text;
using Famfs.Core;
using Famfs.V1;

namespace Famfs.Cli;

/// <summary>
/// The other processes that ask mounts (<see cref="MountQuestions"/>). One answers one question after another, so that a verb with
/// thousands of paths starts one process. One that does not answer in time is killed, as far as it can be, and left behind. Any thread.
/// </summary>
/// <param name="start">Starts one; its input and output are redirected.</param>
internal sealed class MountAskers(Func<Process> start)
{
    // A process that has answered ends as soon as its input does. Chosen: far above that.
    private static readonly TimeSpan s_end = TimeSpan.FromSeconds(5);

    private readonly ConcurrentBag<Process> _idle = [];

    /// <summary>Those of this program.</summary>
    public MountAskers()
        : this(StartOwn)
    {
    }

    /// <summary>Asks. Cancelled, the process is left behind.</summary>
    public async Task<byte[]> AskAsync(IReadOnlyList<string> question, CancellationToken cancel)
    {
        while (true)
        {
            bool isUsed = _idle.TryTake(out Process? asker);
            asker ??= start();
            try
            {
                byte[] answer = await AskAsync(asker, question, cancel).ConfigureAwait(false);
                _idle.Add(asker);
                return answer;
            }
            catch (IOException)
            {
                Abandon(asker);
                // Somebody may have killed it after its last answer.
                if (!isUsed)
                    throw new FamfsException(ErrorReason.Unspecified, $"{asker.StartInfo.FileName} {MountQuestions.Verb} ended without an answer");
            }
            catch
            {
                Abandon(asker);
                throw;
            }
        }
    }

    /// <summary>Ends those that wait for a question, and returns when they have ended. Others can be asked afterwards.</summary>
    public void End()
    {
        while (_idle.TryTake(out Process? asker))
        {
            asker.StandardInput.Close();
            asker.WaitForExit(s_end);
            asker.Dispose();
        }
    }

    /// <summary>In the other process: answers until there are no questions any more.</summary>
    public static int Serve(Stream input, Stream output)
    {
        using BinaryReader reader = new(input, Encoding.UTF8, leaveOpen: true);
        while (true)
        {
            string[] question;
            try
            {
                question = new string[reader.ReadInt32()];
            }
            catch (EndOfStreamException)
            {
                return 0;
            }
            for (int i = 0; i < question.Length; i++)
                question[i] = reader.ReadString();
            byte[] answer = MountQuestions.Answer(question);
            byte[] message = new byte[sizeof(int) + answer.Length];
            BinaryPrimitives.WriteInt32LittleEndian(message, answer.Length);
            answer.CopyTo(message, sizeof(int));
            output.Write(message);
            output.Flush();
        }
    }

    private static async Task<byte[]> AskAsync(Process asker, IReadOnlyList<string> question, CancellationToken cancel)
    {
        using MemoryStream message = new();
        using (BinaryWriter writer = new(message, Encoding.UTF8, leaveOpen: true))
        {
            writer.Write(question.Count);
            foreach (string word in question)
                writer.Write(word);
        }
        await asker.StandardInput.BaseStream.WriteAsync(message.GetBuffer().AsMemory(0, (int)message.Length), cancel).ConfigureAwait(false);
        await asker.StandardInput.BaseStream.FlushAsync(cancel).ConfigureAwait(false);
        Stream answers = asker.StandardOutput.BaseStream;
        byte[] length = new byte[sizeof(int)];
        await answers.ReadExactlyAsync(length, cancel).ConfigureAwait(false);
        byte[] answer = new byte[BinaryPrimitives.ReadInt32LittleEndian(length)];
        await answers.ReadExactlyAsync(answer, cancel).ConfigureAwait(false);
        return answer;
    }

    private static Process StartOwn()
    {
        string program = Environment.ProcessPath ?? throw new FamfsException(ErrorReason.Unspecified, "the path of this program is not known; is /proc mounted?");
        // Streams of its own: whoever waits for the end of ours must not wait for it.
        Process asker = new() { StartInfo = new(program, [MountQuestions.Verb]) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true } };
        asker.Start();
        return asker;
    }

    private static void Abandon(Process asker)
    {
        try
        {
            asker.Kill();
        }
        catch (InvalidOperationException)
        {
            // It has ended.
        }
    }
}
