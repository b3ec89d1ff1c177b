using Famfs.Client.Cli;
using Famfs.Core.Log;
using Famfs.Core.Log.Native;
using Famfs.Famfs2;

return (int)await FamfsCommand.RunAsync(args, CliEnvironment.OfProcess(new MediaFormats([NativeFormat.Instance, Famfs2Format.Instance]))).ConfigureAwait(false);
