using System.Text.RegularExpressions;
using Xunit;

namespace Famfs.Conventions.Tests;

/// <summary>What is deployed is of this version.</summary>
public sealed partial class DeployTests
{
    [Fact]
    public void Manifests_name_the_image_of_this_version()
    {
        string version = Version().Match(SourceTree.Read("Directory.Build.props")).Groups[1].Value;
        int images = 0;
        foreach (string file in SourceTree.FindFiles("deploy/kubernetes", "*.yaml"))
        {
            foreach (Match image in Image().Matches(SourceTree.Read(file)))
            {
                images++;
                Assert.True(image.Groups[1].Value == version, $"{file} names {image.Value}, this is {version}");
            }
        }
        Assert.InRange(images, 6, int.MaxValue);
    }

    /// <summary>A Pod that is told to use what is not there waits without a word.</summary>
    [Fact]
    public void What_a_kustomization_names_is_there()
    {
        int named = 0;
        foreach (string file in SourceTree.FindFiles("deploy/kubernetes", "kustomization.yaml"))
        {
            string folder = Path.GetDirectoryName(file)!;
            foreach (Match item in Item().Matches(SourceTree.Read(file)))
            {
                string path = Path.Combine(SourceTree.Root, folder, item.Groups[1].Value);
                if (!item.Groups[1].Value.Contains(':', StringComparison.Ordinal))
                {
                    named++;
                    Assert.True(Path.Exists(path), $"{file} names {item.Groups[1].Value}");
                }
            }
        }
        Assert.InRange(named, 20, int.MaxValue);
    }

    [GeneratedRegex("<Version>(.*)</Version>")]
    private static partial Regex Version();

    [GeneratedRegex(@"image: localhost/famfs:(\S+)")]
    private static partial Regex Image();

    [GeneratedRegex(@"^\s*- (\S+)$", RegexOptions.Multiline)]
    private static partial Regex Item();
}
